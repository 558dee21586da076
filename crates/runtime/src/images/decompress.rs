//! Decompression, on a thread of its own: ahead of whoever uses what comes out, so that the next layer is being
//! decompressed while one is written.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

use super::store::hex;

/// Bytes that are handed over at once: they fit a core's own cache.
const PIECE: usize = 128 << 10;
/// How many pieces may wait: 32 MiB.
const AHEAD: usize = 256;
/// How many layers are decompressed side by side, at most.
pub const SIDE_BY_SIDE: usize = 3;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Whether what begins like this is compressed.
pub fn is_compressed(start: &[u8]) -> bool {
    start.starts_with(&GZIP) || start.starts_with(&ZSTD)
}

/// Decompresses by what the stream begins with, whatever its media type says.
pub fn decompress<'a>(reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(PIECE, reader);
    let start = reader.fill_buf()?;
    if start.starts_with(&GZIP) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader)));
    }
    if start.starts_with(&ZSTD) {
        return Ok(Box::new(zstd::stream::read::Decoder::with_buffer(reader)?));
    }
    Ok(Box::new(reader))
}

/// Reads through, and knows the digest of what was read, if anybody wants it.
pub struct Hashing<R> {
    inner: R,
    hash: Option<Sha256>,
}

impl<R: Read> Hashing<R> {
    pub fn new(inner: R, wanted: bool) -> Self {
        Self { inner, hash: wanted.then(Sha256::new) }
    }

    /// Whom it read from, and the digest: `sha256:` and hexadecimal digits.
    pub fn into_parts(self) -> (R, Option<String>) {
        (self.inner, self.hash.map(|hash| format!("sha256:{}", hex(&hash.finalize()))))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        if let Some(hash) = &mut self.hash {
            hash.update(buf.get(..n).unwrap_or_default());
        }
        Ok(n)
    }
}

type Piece = io::Result<Vec<u8>>;

/// A stream that is being decompressed. What comes out is read in order; after an error comes nothing.
pub struct Decompressing {
    arriving: Receiver<Piece>,
    empty: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    producer: JoinHandle<io::Result<Option<String>>>,
}

impl Decompressing {
    /// Begins. `digest` says whether the digest of what `transported` gives is wanted.
    ///
    /// # Errors
    /// When there can be no thread more.
    pub fn start(transported: impl Read + Send + 'static, digest: bool) -> io::Result<Self> {
        let (sender, arriving) = sync_channel(AHEAD);
        let (empty, emptied) = channel();
        let produce = move || produce(Hashing::new(transported, digest), &sender, &emptied);
        let producer = std::thread::Builder::new().name("decompress".into()).spawn(produce)?;
        Ok(Self { arriving, empty, piece: Vec::new(), at: 0, producer })
    }

    /// Reads the rest of what was transported, however much of its content was read. Its digest, if it is wanted.
    ///
    /// # Errors
    /// When its end was not reached.
    pub fn finish(self) -> io::Result<Option<String>> {
        let Self { arriving, producer, .. } = self;
        // Whoever still sends would wait for ever.
        drop(arriving);
        producer.join().unwrap_or_else(|_| Err(io::Error::other("decompressing panicked")))
    }
}

fn produce(
    mut transported: Hashing<impl Read>,
    sender: &SyncSender<Piece>,
    emptied: &Receiver<Vec<u8>>,
) -> io::Result<Option<String>> {
    // One that is not taken any more is nobody's loss.
    match decompress(&mut transported) {
        Err(error) => drop(sender.send(Err(error))),
        Ok(mut plain) => loop {
            let mut piece = emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
            piece.clear();
            let (end, next) = match (&mut plain).take(PIECE as u64).read_to_end(&mut piece) {
                Ok(read) => (read == 0, Ok(piece)),
                Err(error) => (true, Err(error)),
            };
            if sender.send(next).is_err() || end {
                break;
            }
        },
    }
    // What follows the compressed stream still counts for the digest.
    io::copy(&mut transported, &mut io::sink())?;
    Ok(transported.into_parts().1)
}

impl Read for Decompressing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let Ok(next) = self.arriving.recv() else { return Ok(0) };
            // The other side may be done already.
            drop(self.empty.send(std::mem::replace(&mut self.piece, next?)));
            self.at = 0;
        }
        let mut rest = self.piece.get(self.at..).unwrap_or_default();
        let read = rest.read(buf)?;
        self.at += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::images::store::digest;

    fn text() -> Vec<u8> {
        (0..600_000u32).flat_map(|number| (number % 251).to_le_bytes()).collect()
    }

    fn packed() -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&text()).unwrap();
        gzip.finish().unwrap()
    }

    fn all(transported: Vec<u8>) -> (io::Result<Vec<u8>>, io::Result<Option<String>>) {
        let mut content = Decompressing::start(Cursor::new(transported), true).unwrap();
        let mut bytes = Vec::new();
        let read = content.read_to_end(&mut bytes).map(|_| bytes);
        (read, content.finish())
    }

    #[test]
    fn what_was_packed_comes_out() {
        for transported in [packed(), zstd::encode_all(&*text(), 1).unwrap(), text()] {
            let (bytes, finished) = all(transported.clone());
            assert_eq!(bytes.unwrap(), text());
            assert_eq!(finished.unwrap().unwrap(), digest(&transported));
        }
    }

    #[test]
    fn nothing_packed_is_nothing() {
        let (bytes, finished) = all(Vec::new());
        assert_eq!(bytes.unwrap(), b"");
        assert_eq!(finished.unwrap().unwrap(), digest(b""));
    }

    #[test]
    fn whoever_stops_early_leaves_the_rest_to_be_read() {
        let mut content = Decompressing::start(Cursor::new(packed()), true).unwrap();
        let mut first = [9; 4];
        content.read_exact(&mut first).unwrap();
        assert_eq!(first, [0; 4]);
        assert_eq!(content.finish().unwrap().unwrap(), digest(&packed()));
    }

    #[test]
    fn a_broken_stream_is_an_error_after_what_came_before_it() {
        let mut broken = packed();
        broken.truncate(broken.len() / 2);
        let (bytes, finished) = all(broken.clone());
        assert_eq!(bytes.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(finished.unwrap().unwrap(), digest(&broken));
    }

    #[test]
    fn one_that_nobody_wants_ends() {
        drop(Decompressing::start(Cursor::new(packed()), false).unwrap());
    }
}
