"""Parts of bench_compressor.py: what is measured of an encoder, and how."""
