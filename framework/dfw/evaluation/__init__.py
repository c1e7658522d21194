"""How runs are judged: protocols of views, scores of their pictures, records beside the runs, and means with intervals."""
