//! Writes results to stdout, or into a file: whole or not at all, under the name that was given, and with the owner and
//! the permissions of the file that it replaces.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tempfile::NamedTempFile;

use crate::report::escape;

/// Whether stdout was open for writing at the start. Rust's runtime opens `/dev/null` in the place of a closed one, and
/// takes EBADF for success.
static STDOUT_WRITABLE: AtomicBool = AtomicBool::new(true);

pub(super) fn stdout_is_writable(yes: bool) {
    STDOUT_WRITABLE.store(yes, Ordering::Relaxed);
}

/// Checks whether stdout can be written to, as far as that can be known beforehand.
pub(super) fn check_stdout() -> Result<(), String> {
    if STDOUT_WRITABLE.load(Ordering::Relaxed) {
        return Ok(());
    }
    Err("cannot write to stdout, which is closed or open for reading only: send it to a file, a pipe or /dev/null"
        .into())
}

/// Prints data. A reader that has closed the pipe is no failure; any other error is one, with status 2.
pub(super) fn print(text: &str, status: ExitCode) -> ExitCode {
    print_to(&mut anstream::stdout().lock(), text, status)
}

/// Prints data as it is: it has no colours of this program, and nothing is taken out of it.
pub(super) fn print_as_it_is(text: &str, status: ExitCode) -> ExitCode {
    print_to(&mut io::stdout().lock(), text, status)
}

fn print_to(stdout: &mut impl Write, text: &str, status: ExitCode) -> ExitCode {
    if text.is_empty() {
        return status;
    }
    if let Err(error) = check_stdout() {
        return usage(&error);
    }
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => status,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => status,
        Err(error) => usage(&format_args!("cannot write to stdout: {error}")),
    }
}

/// Prints a message to stderr, without control characters: parts of it may come from other processes, and must not be
/// commands to the terminal. A stderr that cannot be written to is no reason to stop.
pub(super) fn tell(message: &dyn Display) {
    let _ = writeln!(anstream::stderr().lock(), "{}", escape::plain_lines(&message.to_string()));
}

/// Says what is wrong with the call; status 2.
pub(super) fn usage(error: &dyn Display) -> ExitCode {
    tell(&format_args!("deadbeat: {error}"));
    ExitCode::from(2)
}

/// Whether stdout and stderr are one terminal, pipe or file: what is printed to both would be read twice.
pub(super) fn streams_are_one() -> bool {
    let identity = |stream| rustix::fs::fstat(stream).map(|data| (data.st_dev, data.st_ino));
    match (identity(rustix::stdio::stdout()), identity(rustix::stdio::stderr())) {
        (Ok(stdout), Ok(stderr)) => stdout == stderr,
        _ => false,
    }
}

/// Whether two names mean one file, however they are written.
pub(super) fn are_one(file: &Path, other: &Path) -> bool {
    let identity = |file| fs::metadata(file).map(|data| (data.dev(), data.ino()));
    if let (Ok(file), Ok(other)) = (identity(file), identity(other)) {
        return file == other;
    }
    let place = |file: &Path| Some(fs::canonicalize(folder(file)).ok()?.join(file.file_name()?));
    place(file).is_some_and(|place_of_file| Some(place_of_file) == place(other))
}

/// Checks whether a file can be written there, without leaving one.
pub(super) fn check_writable(file: &Path) -> Result<(), String> {
    if file.is_dir() || file.as_os_str().as_bytes().ends_with(b"/") {
        return Err(cannot_write(file, &Errno::EISDIR.into()));
    }
    if file.file_name().is_none() {
        return Err(cannot_write(file, &Errno::EINVAL.into()));
    }
    refuse_link(file)?;
    if is_special(file) {
        return Ok(());
    }
    temporary_for(file).map(drop).map_err(|error| cannot_write(file, &error))
}

/// Writes a file by way of a temporary file beside it, so that no reader ever sees a part of it.
pub(super) fn write_whole(file: &Path, contents: &[u8]) -> Result<(), String> {
    refuse_link(file)?;
    let write = || -> io::Result<()> {
        if is_special(file) {
            // A pipe without a reader is an error at once and not a wait for ever; a slow reader is waited for.
            let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
            let mut stream = fs::OpenOptions::new().write(true).custom_flags(flags).open(file)?;
            if stream.metadata()?.is_file() {
                // A file has come there meanwhile: a file is replaced, and never written into.
                return Err(Errno::EEXIST.into());
            }
            fcntl_setfl(&stream, fcntl_getfl(&stream)? - OFlags::NONBLOCK)?;
            return stream.write_all(contents);
        }
        let mut temporary = temporary_for(file)?;
        temporary.write_all(contents)?;
        temporary.as_file().sync_all()?;
        // A link that has come there meanwhile is itself replaced: a rename follows no link.
        temporary.persist(file)?;
        Ok(())
    };
    write().map_err(|error| cannot_write(file, &error))
}

/// Whether this is a device or a pipe: it cannot be written in one step, and must not be replaced by a file.
pub(super) fn is_special(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| !data.is_file() && !data.is_dir())
}

/// Refuses a symbolic link in the place of the file: another user may have chosen what it leads to. A link is followed
/// only if this user or the system owns it and it leads to a device or a pipe, such as `/dev/stdout` and `/dev/fd/63`.
fn refuse_link(file: &Path) -> Result<(), String> {
    let Ok(link) = fs::symlink_metadata(file) else { return Ok(()) };
    let is_trusted = link.uid() == 0 || link.uid() == rustix::process::geteuid().as_raw();
    if !link.is_symlink() || (is_trusted && is_special(file)) {
        return Ok(());
    }
    let target = fs::read_link(file).unwrap_or_default();
    let target = folder(file).join(target);
    Err(format!(
        "cannot write {}: it is a symbolic link to {}, and links are not followed; name the file that is meant",
        file.display(),
        target.display()
    ))
}

/// Makes the temporary file. It is private by default; a report has the permissions that the umask leaves, and if it
/// replaces a file, the owner and the permissions of that file, before the first byte is written.
fn temporary_for(file: &Path) -> io::Result<NamedTempFile<fs::File>> {
    let old = fs::symlink_metadata(file).ok().filter(fs::Metadata::is_file);
    let mode = if old.is_some() { 0o600 } else { 0o666 };
    let mut refused = None;
    let open = |path: &Path| {
        let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        opened.inspect_err(|error| refused = error.raw_os_error())
    };
    // The error that comes back names the temporary file, which is nothing to its reader, and not in the system's
    // words.
    let made = tempfile::Builder::new().make_in(folder(file), open);
    let made = made.map_err(|error| refused.map_or(error, io::Error::from_raw_os_error))?;
    if let Some(old) = old {
        let new = made.as_file().metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            std::os::unix::fs::fchown(made.as_file(), Some(old.uid()), Some(old.gid())).map_err(|error| {
                let (uid, gid) = (old.uid(), old.gid());
                let why =
                    format!("it belongs to user {uid} and group {gid}, and a new one in its place cannot ({error})");
                io::Error::other(why + "; remove it first, or name another")
            })?;
        }
        // After the owner: changing that takes away some permissions.
        made.as_file().set_permissions(old.permissions())?;
    }
    Ok(made)
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn cannot_write(file: &Path, error: &io::Error) -> String {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};

    let folder = folder(file);
    let remedy = match error.kind() {
        NotFound if !folder.exists() => format!("; make the folder {} first", folder.display()),
        NotADirectory => format!("; {} is no folder, choose one that is", folder.display()),
        IsADirectory => "; name a file in it".to_owned(),
        PermissionDenied | ReadOnlyFilesystem => "; name one in a folder that you may write to".to_owned(),
        _ => String::new(),
    };
    format!("cannot write {}: {error}{remedy}", file.display())
}
