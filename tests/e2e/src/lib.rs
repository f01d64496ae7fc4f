//! Nothing: the tests are in `tests/`, and cargo wants a library.
