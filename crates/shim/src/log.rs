//! Log lines in the CRI's format: `<RFC 3339 time> stdout F text`. A line that is longer than
//! [`CHUNK`] is written in pieces marked `P`, the last one `F`; what a container wrote behind its last newline is `P`.

use crate::proto;
use crate::sys;

/// The longest piece of a line.
pub const CHUNK: usize = 16 * 1024;
const OUT: usize = CHUNK + 256;

const _: () = assert!(proto::MAX_PACKET <= CHUNK);

/// Collects whole lines, so that one write carries many.
pub struct Writer {
    buf: [u8; OUT],
    len: usize,
    /// Bytes that were written since somebody asked.
    written: usize,
}

impl Writer {
    /// Appends one piece of a line, which is `head` and then `tail`.
    pub fn line(&mut self, fd: i32, prefix: &[u8], full: bool, head: &[u8], tail: &[u8]) {
        if self.len + prefix.len() + 3 + head.len() + tail.len() > OUT {
            self.flush(fd);
        }
        self.push(prefix);
        self.push(if full { b"F " } else { b"P " });
        self.push(head);
        self.push(tail);
        self.push(b"\n");
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Some(room) = self.buf.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    /// Writes what was collected. What a full disk refuses is lost, as it is upstream: a container
    /// must not stop because its log cannot be written. A line of which the disk took a part goes as
    /// a whole: the next one would be written behind it, and be lost too.
    pub fn flush(&mut self, fd: i32) {
        let all = self.buf.get(..self.len).unwrap_or(&[]);
        let mut rest = all;
        while !rest.is_empty() {
            match sys::write(fd, rest) {
                Ok(n) => {
                    self.written += n;
                    rest = rest.get(n..).unwrap_or(&[]);
                }
                Err(sys::EINTR) => {}
                Err(_) => {
                    let taken = all.get(..all.len() - rest.len()).unwrap_or(&[]);
                    let whole = taken.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                    if whole < taken.len() {
                        sys::shrink(fd, taken.len() - whole);
                    }
                    break;
                }
            }
        }
        self.len = 0;
    }

    /// How many bytes were written since this was asked last.
    pub fn take_written(&mut self) -> usize {
        core::mem::take(&mut self.written)
    }
}

/// `2026-01-02T03:04:05.000000006Z stdout `, and its length.
pub fn prefix(time: (i64, i64), stderr: bool) -> ([u8; 48], usize) {
    let mut out = [0u8; 48];
    let (year, month, day) = civil(time.0.div_euclid(86_400));
    let second = time.0.rem_euclid(86_400);
    let fields = [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (second / 3600, 2, b':'),
        (second / 60 % 60, 2, b':'),
        (second % 60, 2, b'.'),
        (time.1, 9, b'Z'),
    ];
    let mut at = 0;
    for (value, width, end) in fields {
        let mut value = value;
        for i in (at..at + width).rev() {
            out[i] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        out[at + width] = end;
        at += width + 1;
    }
    for byte in if stderr { b" stderr " } else { b" stdout " } {
        out[at] = *byte;
        at += 1;
    }
    (out, at)
}

/// The date of a day counted from 1970-01-01, by the usual rearrangement of the year to begin in
/// March, so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
