"""From an optimised field to files: mesh, texture, GLB, OBJ and PLY."""
