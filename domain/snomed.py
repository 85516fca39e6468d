"""SNOMED CT identifiers carry a check digit, which tells a mistyped one."""


def has_valid_check_digit(snomed_identifier: str) -> bool:
    """Whether the last digit of a SNOMED CT identifier is right: Verhoeff's dihedral check (SNOMED CT RF2, 6.4).

    It finds every wrong digit and every pair of digits swapped. Public lists of codes are full of both.
    """
    if not snomed_identifier.isascii() or not snomed_identifier.isdigit():
        return False
    check = 0
    for position, digit in enumerate(reversed(snomed_identifier)):
        check = _in_dihedral_group(check, _permuted(int(digit), position))
    return check == 0


def _in_dihedral_group(left: int, right: int) -> int:
    """The product of two symmetries of a pentagon: 0 to 4 are rotations, 5 to 9 are reflections."""
    if left < 5:
        return (left + right) % 5 + (right // 5) * 5
    return (left - right) % 5 + (1 - right // 5) * 5


def _permuted(digit: int, times: int) -> int:
    """Verhoeff's permutation, applied once for each place of the digit; it comes round after eight."""
    for _ in range(times % 8):
        digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
    return digit
