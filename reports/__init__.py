"""Results as DICOM objects: a Secondary Capture overlay, a TID 1500 report and a readable report for each study; what a
destination asks for besides; and the note that takes all of it back.

write.py is the door. Every writer in reports/writers/ is found by its name; the rest of the room is what they share:
picture/ what a reader looks at, sr/ the content trees, languages/ the words.

    request.py ──> write.py ──> writers/… ──> provenance.py ──> validate.py ──> bytes
                      │             │
                  source.py     words.py, codes.py, uids.py
"""
