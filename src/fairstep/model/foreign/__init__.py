"""Anybody's model as a workload: a function that builds a torch module, or a config of Hugging Face Transformers.

``sources`` finds what a name means, without torch. ``building`` makes the module and ``module`` is what it is to a
training loop. ``counting`` counts its parameters and FLOPs on the meta device. ``checking`` looks for what is wrong.
"""
