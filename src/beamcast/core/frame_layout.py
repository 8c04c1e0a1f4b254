"""Where things are in an HDF5 file of frames: for who writes it and who plays it back.

All datasets have one entry for each frame, in the order of writing; `ID` is written last, so its length is the
number of frames that are whole, also while the file grows.
"""

# [frames, rows, columns], one chunk for each frame
DATA = "entry/data/data"
# In place of images, where a stream has none: a dataset for each field, `values` and `end` for one that is an array
FIELDS = "entry/fields"
# int64, the value of the id field
ID = "entry/frame/id"
# int64, which life of the source, from 0
EPOCH = "entry/frame/epoch"
# float64, seconds since 1970, NaN where the frame has none
TIMESTAMP = "entry/frame/timestamp"
# a dataset for each name: float64, or bytes for text
METADATA = "entry/metadata"
# A file that is being written, or was when its process ended.
PARTIAL = ".partial"
