//! The `deadbeat` program; see `deadbeat --help`.

mod before_main;

use std::process::ExitCode;

fn main() -> ExitCode {
    deadbeat::cli::main(before_main::seen())
}
