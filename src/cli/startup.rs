//! What Rust's runtime has changed before `main`, as the program found it.

/// How the program was started, as far as Rust's runtime has changed it before `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the program itself makes it")]
pub struct ProgramStart {
    /// What SIGPIPE did, which a command that is started is to get back.
    pub pipe: Pipe,
    /// Whether stdout was open for writing. If not, it is `/dev/null` by now, or its errors are not reported.
    pub stdout_writable: bool,
}

/// What SIGPIPE did: Rust ignores it before `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Pipe {
    /// It ended a process that wrote to a pipe without a reader.
    Default,
    /// It was ignored, and such a write failed.
    Ignored,
}
