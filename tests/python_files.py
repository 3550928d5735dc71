"""The other side of a test in files_test.cpp: in the folder given, checks our files by NumPy's and safetensors' readers
against each other, and writes them anew, with kinds of numbers that optnet reads only."""
import glob
import os
import sys

import numpy
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

folder = sys.argv[1]
ours = load_file(f"{folder}/ours.safetensors")
files = glob.glob(f"{folder}/*.npy")
assert len(files) == len(ours) > 5, files
for file in files:
    name = os.path.basename(file)[:-4]
    x = numpy.load(file)
    assert x.dtype == ours[name].dtype and x.shape == ours[name].shape and x.tobytes() == ours[name].tobytes(), name
    numpy.save(f"{folder}/their_{name}.npy", x)
assert ours["float32"].shape == (2, 3, 4) and ours["int64"].dtype == numpy.int64 and ours["none"].shape == (0, 3)
special = ours["special"]
assert numpy.isnan(special[0]) and special[1] == numpy.inf and numpy.signbit(special[2]) and special[3] == 5e-324
with safe_open(f"{folder}/ours.safetensors", "numpy") as file:
    metadata = file.metadata()

for kind in ["int32", "int16", "int8", "uint8", "bool"]:
    ours[kind] = numpy.array([[-2], [0], [1]] if kind.startswith("int") else [[2], [0], [1]]).astype(kind)
    numpy.save(f"{folder}/{kind}.npy", ours[kind])
numpy.save(f"{folder}/columns.npy", numpy.asfortranarray(numpy.arange(12).reshape(2, 3, 2)))
numpy.save(f"{folder}/big_endian.npy", numpy.array([1.5, -2], ">f8"))

# Every half there is, in its order of bits, and the same as float32.
ours["halves"] = numpy.arange(1 << 16, dtype=numpy.uint16).view(numpy.float16)
numpy.save(f"{folder}/halves.npy", ours["halves"].astype(numpy.float32))
save_file(ours, f"{folder}/theirs.safetensors", metadata)
