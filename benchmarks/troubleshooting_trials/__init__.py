"""The symptoms of benchmarks/troubleshooting.py, each reproduced on purpose, with every remedy of the guide tried."""
