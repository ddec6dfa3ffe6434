"""Embeddings of the nodes of a graph that no batch-by-batch training makes: plain functions.

Graphs are SciPy sparse matrices [N, N], row and column a node, weights at least 0; vectors are
float32 [N, D].
"""
