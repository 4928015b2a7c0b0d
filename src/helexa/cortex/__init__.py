"""The control plane: mesh member, and optionally orchestrator, gateway and portals."""
