//! One process of the pod: its descriptors and the pumping of its output.
//!
//! A slot of zeroes is a free one, so that the table costs no memory before it is used; for the
//! same reason descriptors are stored as one more than they are.

use crate::log::{self, CHUNK, Writer};
use crate::proto;
use crate::sys;

/// Bytes that a pipe holds at most, whatever its users ask for (`/proc/sys/fs/pipe-max-size`).
const LARGEST_PIPE: usize = 1 << 20;
/// Bytes that are read of a pipe at once, at least.
const SMALLEST_READ: usize = 4096;
/// After so many bytes of a log its times are set anew. The kernel tells whoever watches it of that, and so it is
/// rotated in time however fast it grows, and nobody is woken by what grows slowly.
const MARK: usize = 1 << 20;

/// A descriptor that is closed when it is replaced; 0 stands for none.
#[repr(transparent)]
pub struct Fd(i32);

impl Fd {
    pub fn get(&self) -> Option<i32> {
        if self.0 == 0 { None } else { Some(self.0 - 1) }
    }

    pub fn set(&mut self, fd: Option<i32>) {
        self.close();
        self.0 = fd.map_or(0, |fd| fd + 1);
    }

    pub fn close(&mut self) {
        if let Some(fd) = self.get() {
            sys::close(fd);
        }
        self.0 = 0;
    }

    pub fn is_open(&self) -> bool {
        self.0 != 0
    }
}

/// One of stdout and stderr. `held` is an unfinished line: pages that exist only while there is one.
pub struct Stream {
    pub source: Fd,
    pub sink: Fd,
    held: usize,
    held_len: usize,
}

pub struct Slot {
    pub handle: u64,
    pub state: u64,
    pub flags: u64,
    pub pid: i32,
    pub launcher: i32,
    pub seq: u32,
    pub start_time: i64,
    pub status: i32,
    pub report: Fd,
    pub streams: [Stream; 2],
    pub stdin: Fd,
    pub log: Fd,
    /// Bytes of the log since its last mark.
    unmarked: usize,
}

impl Slot {
    pub fn is_exec(&self) -> bool {
        self.flags & proto::FLAG_EXEC != 0
    }

    pub fn clear(&mut self) {
        self.report.close();
        self.stdin.close();
        for stream in &mut self.streams {
            stream.source.close();
            stream.sink.close();
            stream.release();
        }
        self.log.close();
        self.unmarked = 0;
        self.handle = 0;
        self.state = 0;
        self.flags = 0;
        self.pid = 0;
        self.launcher = 0;
        self.seq = 0;
        self.start_time = 0;
        self.status = 0;
    }

    /// Moves one read's worth of output into the log and the sink. False when there is no more now.
    pub fn pump(&mut self, which: usize, shared: &mut Shared) -> bool {
        let log = self.log.get();
        let Some(stream) = self.streams.get_mut(which) else { return false };
        let Some(source) = stream.source.get() else { return false };
        // A pipe that polls writable takes 4096 bytes whole.
        let want = if stream.sink.is_open() { SMALLEST_READ } else { CHUNK };
        let Some(buf) = shared.input.get_mut(..want) else { return false };
        let read = match sys::read(source, buf) {
            Ok(n) if n > 0 => n,
            Err(sys::EAGAIN | sys::EINTR) => return false,
            // The end, or a terminal whose last user is gone.
            _ => {
                stream.finish(which, log, &mut shared.writer);
                stream.source.close();
                stream.sink.close();
                return false;
            }
        };
        let chunk = shared.input.get(..read).unwrap_or(&[]);
        if let Some(sink) = stream.sink.get()
            && let Err(errno) = sys::write(sink, chunk)
            && errno != sys::EAGAIN
        {
            stream.sink.close();
        }
        if let Some(log) = log {
            stream.log(which, log, chunk, &mut shared.writer);
            self.unmarked += shared.writer.take_written();
            if self.unmarked >= MARK {
                sys::touch(log);
                self.unmarked = 0;
            }
        }
        true
    }

    /// Everything that is in the pipes already; what attached clients cannot take at once is lost to them. Somebody else
    /// may go on writing, faster than is read: no more is taken at once than a pipe can hold.
    pub fn drain(&mut self, shared: &mut Shared) {
        for which in 0..2 {
            for _ in 0..LARGEST_PIPE / SMALLEST_READ {
                if !self.pump(which, shared) {
                    break;
                }
            }
        }
    }
}

impl Stream {
    fn release(&mut self) {
        if self.held != 0 {
            sys::unmap_pages(self.held, CHUNK);
        }
        self.held = 0;
        self.held_len = 0;
    }

    fn held(&self) -> &[u8] {
        if self.held == 0 {
            return &[];
        }
        // SAFETY: `held` is a private mapping of CHUNK bytes that this stream alone owns, and
        // `held_len` never exceeds CHUNK.
        unsafe { core::slice::from_raw_parts(self.held as *const u8, self.held_len) }
    }

    /// Keeps an unfinished line. False when there is no memory for it.
    fn hold(&mut self, bytes: &[u8]) -> bool {
        if self.held == 0 {
            match sys::map_pages(CHUNK) {
                Ok(at) => self.held = at,
                Err(_) => return false,
            }
        }
        // SAFETY: as in `held`; the mapping is writable and no other reference to it is alive.
        let room = unsafe { core::slice::from_raw_parts_mut(self.held as *mut u8, CHUNK) };
        match room.get_mut(self.held_len..self.held_len + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.held_len += bytes.len();
                true
            }
            None => false,
        }
    }

    fn log(&mut self, which: usize, fd: i32, chunk: &[u8], writer: &mut Writer) {
        let (prefix, len) = log::prefix(sys::now(), which == 1);
        let prefix = prefix.get(..len).unwrap_or(&[]);
        let mut rest = chunk;
        while !rest.is_empty() {
            let newline = rest.iter().position(|byte| *byte == b'\n');
            let mut piece = rest.get(..newline.unwrap_or(rest.len())).unwrap_or(&[]);
            rest = rest.get(newline.map_or(rest.len(), |at| at + 1)..).unwrap_or(&[]);
            while self.held_len + piece.len() > CHUNK {
                let (now, later) = piece.split_at((CHUNK - self.held_len).min(piece.len()));
                writer.line(fd, prefix, false, self.held(), now);
                self.held_len = 0;
                piece = later;
            }
            if newline.is_some() {
                writer.line(fd, prefix, true, self.held(), piece);
                self.held_len = 0;
            } else if !piece.is_empty() && !self.hold(piece) {
                writer.line(fd, prefix, false, &[], piece);
            }
        }
        writer.flush(fd);
        if self.held_len == 0 {
            self.release();
        }
    }

    /// The last line may lack its newline: it is a piece, so that whoever reads it adds none.
    fn finish(&mut self, which: usize, log: Option<i32>, writer: &mut Writer) {
        if self.held_len > 0
            && let Some(fd) = log
        {
            let (prefix, len) = log::prefix(sys::now(), which == 1);
            writer.line(fd, prefix.get(..len).unwrap_or(&[]), false, self.held(), &[]);
            writer.flush(fd);
        }
        self.release();
    }
}

/// Buffers that all slots take turns in.
pub struct Shared {
    pub input: [u8; CHUNK],
    pub writer: Writer,
}
