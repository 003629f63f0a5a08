"""New normal images on their way into a unit: inspected, guarded, admitted, and the re-fitted banks held to the gate.

The library half of re-fitting: it looks at images and artifacts and moves files. When a run happens, and what DVC and git
do in it, is decided in `flows`.
"""
