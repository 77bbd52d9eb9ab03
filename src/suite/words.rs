//! What a process says on its stderr: the beginning is kept, and the rest is read, so that nobody blocks on it.

use std::io::Read;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The first words tell most.
const KEPT: usize = 4096;

/// One who hides and holds the pipe is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Words {
    heard: Receiver<Vec<u8>>,
}

impl Words {
    /// Listens from here on, on a thread of its own.
    pub(super) fn of(mut stream: impl Read + Send + 'static) -> Words {
        let (sender, heard) = channel();
        std::thread::spawn(move || {
            let (mut chunk, mut left) = ([0; 1024], KEPT);
            while let Ok(length @ 1..) = stream.read(&mut chunk) {
                let kept = length.min(left);
                left -= kept;
                if kept > 0 && sender.send(chunk[..kept].to_vec()).is_err() {
                    break;
                }
            }
        });
        Words { heard }
    }

    /// What was said, once everybody who could say more is dead; as one line for a report.
    pub(super) fn heard(self) -> String {
        let (mut bytes, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        while let Ok(chunk) = self.heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            bytes.extend(chunk);
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let text = lines.join(" | ");
        let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if bytes.len() >= KEPT { plain + " .." } else { plain }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn the_beginning_is_kept_and_the_rest_is_read() {
        let words = Words::of(Cursor::new("no such group\n".repeat(100_000))).heard();
        assert!(words.starts_with("no such group | no such group | "), "{words}");
        assert!(words.ends_with(" ..") && words.len() < 2 * KEPT, "{}", words.len());
    }

    #[test]
    fn what_is_said_becomes_one_plain_line() {
        let words = Words::of(Cursor::new("\n\x1b[31mred\x1b[0m\r\n\n  and\tmore \n".as_bytes()));
        assert_eq!(words.heard(), " [31mred [0m | and more");
        assert_eq!(Words::of(Cursor::new("")).heard(), "");
    }
}
