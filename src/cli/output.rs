//! Where results go: to stdout, or into a file that is written whole or not at all, in the place that was named and
//! with the owner and the rights of what it replaces.

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

/// Whether stdout was open for writing at the start: Rust's runtime makes a `/dev/null` of one that was closed, and
/// takes EBADF for success.
static STDOUT_WRITABLE: AtomicBool = AtomicBool::new(true);

pub(super) fn stdout_is_writable(yes: bool) {
    STDOUT_WRITABLE.store(yes, Ordering::Relaxed);
}

/// Whether stdout can be written to, as far as that can be known before.
pub(super) fn check_stdout() -> Result<(), String> {
    if STDOUT_WRITABLE.load(Ordering::Relaxed) {
        return Ok(());
    }
    Err("cannot write to stdout, which is closed or open for reading only: send it to a file, a pipe or /dev/null"
        .into())
}

/// Prints data. A reader that has gone away is no failure of ours; any other is, with status 2.
pub(super) fn print(text: &str, status: ExitCode) -> ExitCode {
    print_to(&mut anstream::stdout().lock(), text, status)
}

/// Prints data that has no colours of ours: nothing is taken out of it.
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

/// Says something to the person at the terminal: no word of it, which may be another process's, is a command to that
/// terminal. A stderr that takes nothing is no reason to stop.
pub(super) fn tell(message: &dyn Display) {
    let _ = writeln!(anstream::stderr().lock(), "{}", escape::plain_lines(&message.to_string()));
}

/// Says what is wrong with the call; status 2.
pub(super) fn usage(error: &dyn Display) -> ExitCode {
    tell(&format_args!("deadbeat: {error}"));
    ExitCode::from(2)
}

/// Whether stdout and stderr are one terminal, pipe or file: what is said on both is read twice.
pub(super) fn streams_are_one() -> bool {
    let identity = |stream| rustix::fs::fstat(stream).map(|data| (data.st_dev, data.st_ino));
    match (identity(rustix::stdio::stdout()), identity(rustix::stdio::stderr())) {
        (Ok(stdout), Ok(stderr)) => stdout == stderr,
        _ => false,
    }
}

/// Whether both names are those of one file, however they are written.
pub(super) fn are_one(file: &Path, other: &Path) -> bool {
    let identity = |file| fs::metadata(file).map(|data| (data.dev(), data.ino()));
    if let (Ok(file), Ok(other)) = (identity(file), identity(other)) {
        return file == other;
    }
    let place = |file: &Path| Some(fs::canonicalize(folder(file)).ok()?.join(file.file_name()?));
    place(file).is_some_and(|place_of_file| Some(place_of_file) == place(other))
}

/// Whether a file can be written there, found out without leaving one.
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

/// By way of a temporary file beside it, so that no reader ever gets a half.
pub(super) fn write_whole(file: &Path, contents: &[u8]) -> Result<(), String> {
    refuse_link(file)?;
    let write = || -> io::Result<()> {
        if is_special(file) {
            // A pipe that has no reader is an error now, not a wait for ever; one that is read slowly is waited for.
            let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
            let mut stream = fs::OpenOptions::new().write(true).custom_flags(flags).open(file)?;
            if stream.metadata()?.is_file() {
                // It was put there meanwhile, and a file is replaced, never written into.
                return Err(Errno::EEXIST.into());
            }
            fcntl_setfl(&stream, fcntl_getfl(&stream)? - OFlags::NONBLOCK)?;
            return stream.write_all(contents);
        }
        let mut temporary = temporary_for(file)?;
        temporary.write_all(contents)?;
        temporary.as_file().sync_all()?;
        // A link that was put there meanwhile is replaced itself: a rename follows none.
        temporary.persist(file)?;
        Ok(())
    };
    write().map_err(|error| cannot_write(file, &error))
}

/// A device or a pipe, which has no halves to hide and must not be replaced by a file.
pub(super) fn is_special(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| !data.is_file() && !data.is_dir())
}

/// A symbolic link in the place of the file is refused: what it leads to, another user may have chosen. Only one of
/// ours or the system's that leads to a device or a pipe is followed, such as `/dev/stdout` and `/dev/fd/63`.
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

/// A temporary file is private by default. A report is as any file that a program writes, within the umask; one that
/// replaces a file has its owner and its rights, from before the first byte is in it.
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
        // After the owner: a change of that takes some rights away.
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
