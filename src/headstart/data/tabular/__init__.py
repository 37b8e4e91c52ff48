"""Tables of images: CSV, TSV, JSONL, Parquet and Hugging Face's metadata files."""
