//! The `deadbeat` program; see `deadbeat --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    deadbeat::cli::main()
}
