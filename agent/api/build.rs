//! Generates messages and services from `proto/`.

mod generate;

/// One file per service: the generator names a method's type after the method alone.
const FILES: [&str; 7] =
    ["types", "health", "sandbox", "container", "process", "storage", "network"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    generate::services(&FILES)
}
