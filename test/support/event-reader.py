"""Prints as JSON what TensorBoard's reader finds in the event files of a folder."""
import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

KEEP_ALL = {"scalars": 0, "tensors": 0}
events = EventAccumulator(sys.argv[1], size_guidance=KEEP_ALL).Reload()
tags = events.Tags()
scalars = {tag: [[e.step, e.value, e.wall_time] for e in events.Scalars(tag)] for tag in tags["scalars"]}
texts = {tag: [[e.step, e.tensor_proto.string_val[0].decode()] for e in events.Tensors(tag)] for tag in tags["tensors"]}
json.dump({"scalars": scalars, "texts": texts}, sys.stdout)
