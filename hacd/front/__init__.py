"""The front: accepts callers, keeps the hash of suspended transactions, chooses workers, resumes."""
