//! What Rust's runtime has changed before `main`, as the program found it.

/// How the program was started, as far as Rust's runtime has changed it before `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the program itself makes it")]
pub struct ProgramStart {
    /// What a command is to get as it was.
    pub pipe: Pipe,
    /// Whether stdout was open for writing: if not, it is `/dev/null` by now, or its errors are kept from us.
    pub stdout_writable: bool,
}

/// What SIGPIPE did: Rust ignores it before `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Pipe {
    /// It ends whoever writes to a pipe that nobody reads.
    Default,
    /// Such a write fails.
    Ignored,
}
