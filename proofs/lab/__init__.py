"""The proofs: boots of whole machines, claims about them, and a report of both."""
