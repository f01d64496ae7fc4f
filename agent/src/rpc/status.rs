//! The one table from the agent's errors to gRPC status codes.
