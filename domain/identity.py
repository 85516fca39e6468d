"""Who we are on the wire and in files: fixed for good, so that our own results are known again when they come back."""

MANUFACTURER = "Collimator project"  # Manufacturer (0008,0070)
MODEL_NAME = "Collimator"  # Manufacturer's Model Name (0008,1090)

# UIDs made from random UUIDs (PS3.5 B.2): they need no registered root and never change again.
IMPLEMENTATION_CLASS_UID = "2.25.247679724950296037513493025397774644502"  # Implementation Class UID (0002,0012)
INSTANCE_CREATOR_UID = "2.25.148394796090695659376820782267867090426"  # Instance Creator UID (0008,0014)
IMPLEMENTATION_VERSION_NAME = "COLLIMATOR_0_1"  # (0002,0013), at most 16 characters

# Coding Scheme Designator (0008,0102) of concepts that no public scheme has; "99" marks it as private (PS3.16 8.2).
LOCAL_CODING_SCHEME = "99COLLIM"
