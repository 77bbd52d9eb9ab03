//! What a process prints on its stderr: the beginning and the end are kept. The rest is read too, so that no writer
//! blocks.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many bytes are kept of each end. The first lines say what went wrong first, the last ones what the process died
/// of.
const KEPT_OF_EACH_END: usize = 2048;

/// How long the end of the stream is waited for: a process that got away may hold the pipe for ever.
const STREAM_END_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct StderrTail {
    kept: Arc<Mutex<HeadAndTail>>,
    /// Nothing is sent on it: it ends with the stream.
    over: Receiver<()>,
}

impl StderrTail {
    /// Reads the stream to its end, on a thread of its own.
    pub(super) fn of(mut stream: impl Read + Send + 'static) -> StderrTail {
        let kept = Arc::new(Mutex::new(HeadAndTail::default()));
        let (stream_is_open, over) = channel();
        let heard = Arc::clone(&kept);
        std::thread::spawn(move || {
            let _until_here = stream_is_open;
            let mut chunk = [0; 1024];
            while let Ok(length @ 1..) = stream.read(&mut chunk) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).hear(&chunk[..length]);
            }
        });
        StderrTail { kept, over }
    }

    /// What was printed, as one line for a report. Call it when all writers are dead.
    pub(super) fn text(self) -> String {
        let _ = self.over.recv_timeout(STREAM_END_WITHIN);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).one_line()
    }
}

#[derive(Debug, Default)]
struct HeadAndTail {
    beginning: Vec<u8>,
    end: VecDeque<u8>,
    /// How many bytes there were between the two.
    left_out: usize,
}

impl HeadAndTail {
    fn hear(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(KEPT_OF_EACH_END - self.beginning.len()));
        self.beginning.extend(first);
        self.end.extend(rest);
        let too_many = self.end.len().saturating_sub(KEPT_OF_EACH_END);
        self.end.drain(..too_many);
        self.left_out += too_many;
    }

    fn one_line(&mut self) -> String {
        if self.left_out == 0 {
            self.beginning.extend(self.end.drain(..));
            return plain_line(&self.beginning);
        }
        // A character that was cut in two is left out.
        let whole = self.beginning.utf8_chunks().last().filter(|last| is_cut(last.invalid()));
        let cut = whole.map_or(0, |last| last.invalid().len());
        self.beginning.truncate(self.beginning.len() - cut);
        let rest = self.end.iter().take(3).take_while(|byte| is_continuation(**byte)).count();
        self.end.drain(..rest);
        let (beginning, end) = (plain_line(&self.beginning), plain_line(self.end.make_contiguous()));
        format!("{beginning} … {} bytes left out … {end}", self.left_out + cut + rest)
    }
}

/// Whether these bytes, which are no character, are the first bytes of one.
fn is_cut(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

fn plain_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" | ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn text_of(said: &str) -> String {
        StderrTail::of(Cursor::new(said.to_owned())).text()
    }

    #[test]
    fn the_beginning_and_the_end_are_kept_and_the_rest_is_counted() {
        let said = format!("it began so\n{}it died of this\n", "no such group\n".repeat(100_000));
        let words = text_of(&said);
        assert!(words.starts_with("it began so | no such group | "), "{words}");
        assert!(words.ends_with(" | no such group | it died of this"), "{words}");
        let left_out = said.len() - 2 * KEPT_OF_EACH_END;
        assert!(words.contains(&format!(" … {left_out} bytes left out … ")), "{words}");
        assert!(words.len() < 3 * KEPT_OF_EACH_END, "{}", words.len());
    }

    #[test]
    fn what_fits_is_kept_whole() {
        let said = format!("{}{}", "a".repeat(KEPT_OF_EACH_END), "b".repeat(KEPT_OF_EACH_END));
        assert_eq!(text_of(&said), said);
        let one_more =
            format!("{} … 1 bytes left out … {}", "a".repeat(KEPT_OF_EACH_END), "b".repeat(KEPT_OF_EACH_END));
        assert_eq!(text_of(&format!("{}c{}", "a".repeat(KEPT_OF_EACH_END), "b".repeat(KEPT_OF_EACH_END))), one_more);
    }

    #[test]
    fn no_character_is_cut_through() {
        for shift in 0..3 {
            let words = text_of(&format!("{}{}", "a".repeat(shift), "€".repeat(3 * KEPT_OF_EACH_END)));
            assert!(!words.contains('\u{fffd}'), "{words}");
            let (beginning, rest) = words.split_once(" … ").unwrap();
            let (left_out, end) = rest.split_once(" bytes left out … ").unwrap();
            let told = beginning.len() + end.len() + left_out.parse::<usize>().unwrap();
            assert_eq!(told, shift + "€".len() * 3 * KEPT_OF_EACH_END);
        }
    }

    #[test]
    fn what_is_said_becomes_one_plain_line() {
        assert_eq!(text_of("\n\x1b[31mred\x1b[0m\r\n\n  and\tmore \n"), " [31mred [0m | and more");
        assert_eq!(text_of(""), "");
    }

    #[test]
    fn one_who_holds_the_stream_keeps_nobody_from_what_was_said() {
        let (ear, mut mouth) = std::os::unix::net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut mouth, b"still here").unwrap();
        assert_eq!(StderrTail::of(ear).text(), "still here");
    }
}
