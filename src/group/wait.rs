//! Two ways to wait, for threads that may block: for descriptors, and for a time.

use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFd;

/// `poll(2)`, where there is no `ppoll(2)` rounded up to its milliseconds; an interrupted wait is a short one. Whether
/// any is readable.
pub(crate) fn wait_readable(fds: &mut [PollFd<'_>], at_most: Duration) -> bool {
    match poll(fds, at_most) {
        Ok(ready) => ready > 0,
        Err(Errno::EINTR) => false,
        Err(_) => {
            // Out of memory, say: without the pause the caller would spin.
            pause(at_most.min(Duration::from_millis(100)));
            false
        }
    }
}

#[cfg(target_os = "linux")]
fn poll(fds: &mut [PollFd<'_>], at_most: Duration) -> nix::Result<i32> {
    // Longer than a day is as good as for ever: the caller looks and waits again.
    let at_most = at_most.min(Duration::from_secs(24 * 60 * 60));
    nix::poll::ppoll(fds, Some(at_most.into()), None)
}

#[cfg(not(target_os = "linux"))]
fn poll(fds: &mut [PollFd<'_>], at_most: Duration) -> nix::Result<i32> {
    use nix::poll::PollTimeout;
    let millis = i32::try_from(at_most.as_micros().div_ceil(1000));
    nix::poll::poll(fds, millis.ok().and_then(|ms| PollTimeout::try_from(ms).ok()).unwrap_or(PollTimeout::MAX))
}

/// The pause between two looks where no exit can end it.
pub(crate) fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the portable poll: for threads that may block, never a worker")]
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::time::Instant;

    use nix::poll::PollFlags;

    use super::*;

    #[test]
    fn what_there_is_to_read_ends_a_wait() {
        let (mut writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
        let is_readable = |at_most| wait_readable(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], at_most);
        assert!(!is_readable(Duration::ZERO) && !is_readable(Duration::from_micros(1)));
        writer.write_all(b"x").unwrap();
        // However long it was to be: nothing overflows.
        assert!(is_readable(Duration::ZERO) && is_readable(Duration::MAX));
    }

    #[test]
    fn a_pause_takes_its_time() {
        let start = Instant::now();
        pause(Duration::from_millis(5));
        assert!(start.elapsed() >= Duration::from_millis(5));
    }
}
