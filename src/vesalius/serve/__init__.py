"""A viewer, REST and DICOMweb. Nothing stands here yet."""
