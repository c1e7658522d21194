"""How runs are judged: protocols of views, scores of their pictures, records next to the runs, and means with intervals."""
