"""Drawn people: seeded pictures with COCO annotations, made in the place of photographs."""
