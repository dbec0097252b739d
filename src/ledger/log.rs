//! The append log's format: a header of 16 bytes, then frames of `u32 length, u32 CRC-32 (both little-endian,
//! of the payload), payload`. A payload is zstd over [`Lines`]: one atomic group. Behind the last frame there may be room
//! for more, which is zeros.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::bytes::Bytes;

use super::lines::Lines;
use super::{LedgerError, Record};

const MAGIC: &[u8; 8] = b"seedmill";
const VERSION: u32 = 1;
pub(super) const HEADER_LEN: u64 = 16;
const FRAME_HEADER_LEN: u64 = 8;

/// Every payload begins with zstd's magic number: it finds the next frame behind a damaged one.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Of a frame of zstd that stores what it holds: a single segment, its length in 4 bytes, no checksum (RFC 8878, section
/// 3.1.1.1.1).
const STORED_FRAME: u8 = 0b1010_0000;
/// The largest block of such a frame (section 3.1.1.2.4).
const STORED_BLOCK: usize = 128 << 10;
/// An empty raw block that is the last.
const LAST_BLOCK: [u8; 3] = [1, 0, 0];

pub(super) fn header() -> [u8; HEADER_LEN as usize] {
    let mut header = [0; HEADER_LEN as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// More than a writer puts into a group: what claims to be larger is read piece by piece.
const MOST_LINES_BYTES: u64 = 1 << 30;

/// Turns groups of appends into frames.
pub(super) struct FrameEncoder {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    group: Vec<u8>,
    frame: Vec<u8>,
}

impl FrameEncoder {
    /// Without compression, for logs that become segments, which are compressed: at level -3, zstd's fastest here, a
    /// group went through at 250 MB/s and back at 550, longer than all else that the ledger does for a call.
    pub(super) fn storing() -> FrameEncoder {
        FrameEncoder { compressor: None, group: Vec::new(), frame: Vec::new() }
    }

    pub(super) fn compressing(level: i32) -> io::Result<FrameEncoder> {
        let compressor = Some(zstd::bulk::Compressor::new(level)?);
        Ok(FrameEncoder { compressor, ..Self::storing() })
    }

    /// The frame of a group, which stands in the encoder's own memory.
    pub(super) fn encode<'a>(&mut self, appends: impl IntoIterator<Item = &'a Lines>) -> io::Result<&[u8]> {
        let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, "a group of records takes 4 GiB or more");
        let appends = appends.into_iter().map(|lines| lines.bytes.as_slice());
        let frame = &mut self.frame;
        frame.clear();
        frame.extend_from_slice(&[0; FRAME_HEADER_LEN as usize]);
        match &mut self.compressor {
            Some(compressor) => {
                self.group.clear();
                appends.for_each(|bytes| self.group.extend_from_slice(bytes));
                frame.extend_from_slice(&compressor.compress(&self.group)?);
            }
            None => {
                frame.extend_from_slice(&ZSTD_MAGIC);
                frame.push(STORED_FRAME);
                let len_at = frame.len();
                frame.extend_from_slice(&[0; 4]);
                let mut len = 0;
                for block in appends.flat_map(|bytes| bytes.chunks(STORED_BLOCK)) {
                    len += block.len();
                    let [size @ .., _] = ((block.len() as u32) << 3).to_le_bytes();
                    frame.extend_from_slice(&size);
                    frame.extend_from_slice(block);
                }
                frame.extend_from_slice(&LAST_BLOCK);
                let len = u32::try_from(len).map_err(|_| too_large())?;
                frame[len_at..len_at + 4].copy_from_slice(&len.to_le_bytes());
            }
        }
        let (header, payload) = frame.split_at_mut(FRAME_HEADER_LEN as usize);
        let length = u32::try_from(payload.len()).map_err(|_| too_large())?;
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        Ok(frame)
    }
}

/// Turns payloads into records. It keeps its memory from one to the next.
#[derive(Default)]
struct FrameDecoder {
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
    lines: Vec<u8>,
}

impl fmt::Debug for FrameDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameDecoder").finish_non_exhaustive()
    }
}

impl FrameDecoder {
    fn decode(&mut self, payload: &[u8]) -> Result<Vec<Record>, String> {
        self.decompress(payload).map_err(|e| e.to_string())?;
        Lines::read(&self.lines)
    }

    fn decompress(&mut self, payload: &[u8]) -> io::Result<()> {
        let Ok(Some(len @ 0..=MOST_LINES_BYTES)) = zstd::zstd_safe::get_frame_content_size(payload) else {
            self.lines = zstd::stream::decode_all(payload)?;
            return Ok(());
        };
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        self.lines.clear();
        self.lines.reserve(len as usize);
        decompressor.decompress_to_buffer(payload, &mut self.lines).map(drop)
    }
}

/// A log opened for reading by several at once. An open log stays readable when its file has been sealed and
/// deleted meanwhile.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    data: Data,
}

#[derive(Debug)]
enum Data {
    File(Mutex<File>),
    /// A whole log, which does not grow.
    Bytes(Bytes),
}

impl LogFile {
    pub(super) fn open(path: PathBuf) -> Result<LogFile, LedgerError> {
        let file = File::open(&path).map_err(LedgerError::io("open", &path))?;
        Ok(LogFile { path, data: Data::File(Mutex::new(file)) })
    }

    /// A log that was read as a whole; `path` is for messages.
    pub(super) fn of_bytes(path: PathBuf, bytes: Bytes) -> LogFile {
        LogFile { path, data: Data::Bytes(bytes) }
    }

    /// The length of the file, with the room behind the last frame.
    fn file_len(&self) -> io::Result<u64> {
        match &self.data {
            Data::File(file) => Ok(file.lock().unwrap_or_else(PoisonError::into_inner).metadata()?.len()),
            Data::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Where its frames end, of which one begins at `from`. A torn one counts, as does all behind damage that hides
    /// where the next begins.
    pub(super) fn end(&self, from: u64) -> Result<u64, LedgerError> {
        let find = || {
            let len = self.file_len()?;
            let mut offset = from;
            while offset < len {
                match self.frame_len(offset)? {
                    0 if self.is_zero(offset, len)? => return Ok(offset),
                    0 => return Ok(len),
                    frame => offset += FRAME_HEADER_LEN + frame,
                }
            }
            Ok(len)
        };
        find().map_err(LedgerError::io("read", &self.path))
    }

    /// Whether a frame, or a part of one, stands at an offset where there was none.
    pub(super) fn has_frame(&self, offset: u64) -> Result<bool, LedgerError> {
        let length = self.frame_len(offset).map_err(LedgerError::io("read", &self.path))?;
        Ok(length > 0)
    }

    /// The length of a frame's payload as its first bytes say it; 0 where there are none.
    fn frame_len(&self, offset: u64) -> io::Result<u64> {
        let mut length = [0; 4];
        let read = self.read_at(offset, &mut length)?;
        Ok(if read < length.len() { 0 } else { u64::from(u32::from_le_bytes(length)) })
    }

    fn is_zero(&self, from: u64, to: u64) -> io::Result<bool> {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        let mut buffer = vec![0; ZEROS.len()];
        let mut offset = from;
        while offset < to {
            let read = self.read_at(offset, &mut buffer)?;
            if read == 0 {
                break;
            }
            if buffer[..read] != ZEROS[..read] {
                return Ok(false);
            }
            offset += read as u64;
        }
        Ok(true)
    }

    /// Makes all durable that is written so far, whoever wrote it.
    pub(super) fn sync(&self) -> Result<(), LedgerError> {
        let Data::File(file) = &self.data else { return Ok(()) };
        let file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.sync_data().map_err(LedgerError::io("sync", &self.path))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.data {
            Data::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(offset))?;
                file.read(buffer)
            }
            Data::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                (&bytes[start..]).read(buffer)
            }
        }
    }

    /// The records of the frame at an offset; an error says that it is not intact (any more).
    pub(super) fn frame(self: &Arc<Self>, offset: u64) -> Result<Vec<Record>, LedgerError> {
        let broken = |detail: &str| LedgerError::format(&self.path, format!("at byte {offset}: {detail}"));
        let mut payload = Vec::new();
        let mut read = || read_frame(&mut self.cursor(offset), offset, self.file_len()?, &mut payload);
        match read().map_err(LedgerError::io("read", &self.path))? {
            true => FrameDecoder::default()
                .decode(&payload)
                .map_err(|detail| LedgerError::unknown(&self.path, offset, detail)),
            false => Err(broken("no intact group of records stands there any more")),
        }
    }

    fn cursor(self: &Arc<Self>, offset: u64) -> Cursor {
        Cursor { log: Arc::clone(self), offset }
    }
}

/// A reader with a position of its own.
#[derive(Debug)]
struct Cursor {
    log: Arc<LogFile>,
    offset: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.log.read_at(self.offset, buffer)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Reads the payload of the frame at `offset` in a log of `len` bytes; `false` if none is intact there.
fn read_frame(reader: &mut impl Read, offset: u64, len: u64, payload: &mut Vec<u8>) -> io::Result<bool> {
    let left = len.saturating_sub(offset);
    if left < FRAME_HEADER_LEN {
        return Ok(false);
    }
    let mut header = [0; FRAME_HEADER_LEN as usize];
    if !read_all(reader, &mut header)? {
        return Ok(false);
    }
    let (length, crc) = parse_frame_header(&header);
    // A tail of zeros, which a crash can leave, would be a frame of length 0 with the right CRC.
    if length == 0 || u64::from(length) > left - FRAME_HEADER_LEN {
        return Ok(false);
    }
    payload.resize(length as usize, 0);
    Ok(read_all(reader, payload)? && crc32fast::hash(payload) == crc)
}

/// The length of the frame that these bytes begin, with its header.
pub(super) fn frame_bytes(start: &[u8]) -> Option<u64> {
    let (length, _) = parse_frame_header(start.get(..FRAME_HEADER_LEN as usize)?.try_into().ok()?);
    Some(FRAME_HEADER_LEN + u64::from(length))
}

/// Fills the buffer; `false` where the file ends before, as when a failed write has just been taken back.
fn read_all(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        done => done.map(|()| true),
    }
}

fn parse_frame_header(header: &[u8; FRAME_HEADER_LEN as usize]) -> (u32, u32) {
    let [l0, l1, l2, l3, c0, c1, c2, c3] = *header;
    (u32::from_le_bytes([l0, l1, l2, l3]), u32::from_le_bytes([c0, c1, c2, c3]))
}

/// One atomic group.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) offset: u64,
    pub(super) records: Vec<Record>,
}

/// Reads a log's frames in order and stops at a torn tail. Damage before the last good frame is stepped over and
/// reported as a warning. A frame that is whole and holds what is not known here is no damage but an error: a newer
/// program has paid for what is in it, and no program that steps over it may pay again or take the log for merged.
#[derive(Debug)]
pub(super) struct LogReader {
    log: Arc<LogFile>,
    reader: BufReader<Cursor>,
    payload: Vec<u8>,
    decoder: FrameDecoder,
    offset: u64,
    len: u64,
    damaged: bool,
}

impl LogReader {
    /// Reads what the log holds now.
    pub(super) fn new(log: &Arc<LogFile>) -> Result<LogReader, LedgerError> {
        Self::up_to(log, log.end(HEADER_LEN)?)
    }

    /// Reads no further than `len` bytes.
    pub(super) fn up_to(log: &Arc<LogFile>, len: u64) -> Result<LogReader, LedgerError> {
        let mut reader = BufReader::with_capacity(1 << 18, log.cursor(0));
        // A log gets its name only after its header is durable, so a shorter one was cut by something else.
        if len < HEADER_LEN {
            return Err(LedgerError::format(&log.path, "it is shorter than a log's header"));
        }
        let mut start = [0; HEADER_LEN as usize];
        reader.read_exact(&mut start).map_err(LedgerError::io("read", &log.path))?;
        if start[..8] != MAGIC[..] {
            return Err(LedgerError::format(&log.path, "it does not begin as a log of seedmill's"));
        }
        if start[8..12] != VERSION.to_le_bytes() {
            let version = u32::from_le_bytes([start[8], start[9], start[10], start[11]]);
            let detail = format!("its format has version {version}, and this program reads version {VERSION}");
            return Err(LedgerError::format(&log.path, detail));
        }
        Ok(Self::over(log, reader, HEADER_LEN, len))
    }

    /// Reads on from the end of a frame, up to `len` bytes.
    pub(super) fn from(log: &Arc<LogFile>, offset: u64, len: u64) -> LogReader {
        let reader = BufReader::with_capacity(1 << 18, log.cursor(offset));
        Self::over(log, reader, offset, len)
    }

    fn over(log: &Arc<LogFile>, reader: BufReader<Cursor>, offset: u64, len: u64) -> LogReader {
        let (payload, decoder) = (Vec::new(), FrameDecoder::default());
        LogReader { log: Arc::clone(log), reader, payload, decoder, offset, len, damaged: false }
    }

    /// The length up to which it reads.
    pub(super) fn end(&self) -> u64 {
        self.len
    }

    /// The next good frame, or `None` at the end: of the log, or of what is not torn.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, LedgerError> {
        while self.offset < self.len {
            let offset = self.offset;
            let is_whole = read_frame(&mut self.reader, offset, self.len, &mut self.payload)
                .map_err(LedgerError::io("read", &self.log.path))?;
            if is_whole {
                let records = self.decoder.decode(&self.payload);
                let records = records.map_err(|detail| LedgerError::unknown(&self.log.path, offset, detail))?;
                self.offset += FRAME_HEADER_LEN + self.payload.len() as u64;
                return Ok(Some(Frame { offset, records }));
            }
            match self.resynchronize()? {
                // Groups are written one after the other: where a later one stands, this one is whole by now, unless
                // it is damaged. What was read of it may be from before, when its owner was writing it.
                Some(_) if self.is_whole(offset)? => {
                    self.reader = BufReader::with_capacity(1 << 18, self.log.cursor(offset));
                }
                Some(next) => {
                    self.reader = BufReader::with_capacity(1 << 18, self.log.cursor(next));
                    self.offset = next;
                    self.damaged = true;
                    tracing::warn!(
                        "the ledger's log {} is damaged between bytes {offset} and {next}: its checksum or length is \
                         wrong; the records there are skipped, those after it are read",
                        self.log.path.display(),
                    );
                }
                None => return Ok(None), // the torn tail
            }
        }
        Ok(None)
    }

    /// Whether something before the last good frame could not be read.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// How many bytes stand behind the last good frame, once `next_frame` gave `None`.
    pub(super) fn torn_bytes(&self) -> u64 {
        self.len - self.offset
    }

    /// Whether a good frame stands there now.
    fn is_whole(&self, offset: u64) -> Result<bool, LedgerError> {
        read_frame(&mut self.log.cursor(offset), offset, self.len, &mut Vec::new())
            .map_err(LedgerError::io("read", &self.log.path))
    }

    /// The offset of the next good frame behind the bad one at `self.offset`.
    fn resynchronize(&self) -> Result<Option<u64>, LedgerError> {
        let mut rest = Vec::new();
        self.log
            .cursor(self.offset)
            .take(self.len - self.offset)
            .read_to_end(&mut rest)
            .map_err(LedgerError::io("read", &self.log.path))?;
        let header_len = FRAME_HEADER_LEN as usize;
        let mut from = header_len + 1;
        while let Some(found) = rest.get(from..).and_then(|r| r.windows(4).position(|w| w == ZSTD_MAGIC)) {
            let start = from + found - header_len;
            let len = rest.len() as u64;
            if let Ok(true) = read_frame(&mut &rest[start..], start as u64, len, &mut Vec::new()) {
                return Ok(Some(self.offset + start as u64));
            }
            from += found + 1;
        }
        Ok(None)
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
