"""From a grant to the outcome of its picture: `agents/analysis.py` reads the grants, `analyst.py` handles each."""
