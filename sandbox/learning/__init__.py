"""What the sandbox learns with: data, nets, training, prediction, tracks.

Start in `truth` for the shapes of the data; `generator` and `folders` make it, `training` learns
from it in its own process, `prediction` applies what was learnt.
"""
