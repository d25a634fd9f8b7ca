"""Model parallelism: layers cut into stages (pipeline), and tensors cut into shards (tensor)."""
