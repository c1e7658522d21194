"""Export turns an optimised scene into files: mesh, texture, turntable and picture grids."""

from dfw.export.agreement import Agreement as Agreement
from dfw.export.agreement import rendered_albedo as rendered_albedo
from dfw.export.axes import from_gltf as from_gltf
from dfw.export.axes import to_gltf as to_gltf
from dfw.export.level import LevelChoice as LevelChoice
from dfw.export.level import choose_level as choose_level
from dfw.export.mesh import extract_mesh as extract_mesh
from dfw.export.pictures import save_grid as save_grid
from dfw.export.pictures import save_turntable as save_turntable
from dfw.export.pipeline import ExportResult as ExportResult
from dfw.export.pipeline import export_mesh as export_mesh
from dfw.interfaces.mesh import Mesh as Mesh
