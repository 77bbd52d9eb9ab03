//! The `deadbeat` program; see `deadbeat --help`.

mod sigpipe;

use std::process::ExitCode;

fn main() -> ExitCode {
    deadbeat::cli::main(sigpipe::inherited())
}
