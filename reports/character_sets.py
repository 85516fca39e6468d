"""The defined terms of Specific Character Set (0008,0005), PS3.3 C.12.1.1.2."""

from highdicom.enum import SpecificCharacterSetValues

# highdicom's list lacks the Korean one.
DEFINED_TERMS = frozenset({*(term.value for term in SpecificCharacterSetValues), "ISO 2022 IR 149"})
# As the first of several they stand for the default repertoire, ISO 646, which is ASCII.
DEFAULT_REPERTOIRE = frozenset({"", "ISO 2022 IR 6"})
