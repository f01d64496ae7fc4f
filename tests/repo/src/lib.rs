//! The house rules of this repository, as tests: see `tests/` beside this file.
