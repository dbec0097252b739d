use std::io::Write;

use super::*;
use crate::ledger::{CallId, UseRecord};

fn use_of(n: u64) -> Record {
    Record::Use(UseRecord {
        run_id: format!("run {n}").into(),
        call_ids: vec![CallId::from_bytes([n as u8; 32])],
        stage: "solve".into(),
        replayed: false,
        time_ms: n as i64,
    })
}

/// A log of three frames, and the offsets at which they begin and the last one ends.
fn three_frames() -> (Vec<u8>, [u64; 4]) {
    let mut encoder = FrameEncoder::storing();
    let mut bytes = header().to_vec();
    let mut offsets = [HEADER_LEN; 4];
    for n in 0..3 {
        bytes.extend(encoder.encode([&Lines::of(vec![use_of(n), use_of(n + 100)]).unwrap()]).unwrap());
        offsets[n as usize + 1] = bytes.len() as u64;
    }
    (bytes, offsets)
}

fn read(bytes: &[u8]) -> (Vec<u64>, bool) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let log = Arc::new(LogFile::open(file.path().to_owned()).unwrap());
    let mut reader = LogReader::new(&log).unwrap();
    let mut offsets = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        assert_eq!(frame.records.len(), 2);
        assert_eq!(log.frame(frame.offset).unwrap(), frame.records);
        offsets.push(frame.offset);
    }
    (offsets, reader.is_damaged())
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_at_the_last_good_frame() {
    let (bytes, offsets) = three_frames();
    for end in offsets[2]..offsets[3] {
        assert_eq!(read(&bytes[..end as usize]), (offsets[..2].to_vec(), false), "cut at {end}");
    }
    assert_eq!(read(&bytes), (offsets[..3].to_vec(), false));
}

#[test]
fn a_tail_of_zeros_or_of_half_written_pages_is_cut() {
    let (bytes, offsets) = three_frames();
    let zeros = [&bytes[..], &[0; 4096]].concat();
    assert_eq!(read(&zeros), (offsets[..3].to_vec(), false));
    let mut half = bytes.clone();
    half[offsets[2] as usize + 20..].fill(0);
    assert_eq!(read(&half), (offsets[..2].to_vec(), false));
}

#[test]
fn a_log_ends_before_its_room_also_when_its_last_frame_is_torn() {
    let (bytes, offsets) = three_frames();
    let ends = |bytes: &[u8]| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let log = LogFile::open(file.path().to_owned()).unwrap();
        (log.end(HEADER_LEN).unwrap(), log.has_frame(offsets[3]).unwrap())
    };
    let room = vec![0; 200_000];
    assert_eq!(ends(&bytes), (offsets[3], false));
    assert_eq!(ends(&[&bytes[..], &room].concat()), (offsets[3], false));
    assert_eq!(ends(&[&bytes[..], &[7, 0, 0, 0, 1], &room].concat()), (offsets[3] + 15, true));
    assert_eq!(ends(&[&bytes[..offsets[2] as usize], &room].concat()), (offsets[2], false));
    // A damaged length hides where the next frame begins.
    let mut damaged = [&bytes[..], &room].concat();
    damaged[offsets[1] as usize..][..4].fill(0);
    assert_eq!(ends(&damaged).0, damaged.len() as u64);
}

#[test]
fn groups_written_while_the_log_is_read_are_not_stepped_over() {
    let (bytes, offsets) = three_frames();
    let second = offsets[1] as usize;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[&bytes[..second], &vec![0; bytes.len() - second]].concat()).unwrap();
    let log = Arc::new(LogFile::open(file.path().to_owned()).unwrap());
    let mut reader = LogReader::up_to(&log, bytes.len() as u64).unwrap();
    assert_eq!(reader.next_frame().unwrap().unwrap().offset, offsets[0]);
    // Behind the first there were zeros when its neighbourhood was read.
    std::fs::write(file.path(), &bytes).unwrap();
    for offset in &offsets[1..3] {
        assert_eq!(reader.next_frame().unwrap().unwrap().offset, *offset);
    }
    assert!(!reader.is_damaged());
}

#[test]
fn damage_in_the_middle_costs_only_its_own_group() {
    let (bytes, offsets) = three_frames();
    for at in offsets[1]..offsets[2] {
        let mut damaged = bytes.clone();
        damaged[at as usize] ^= 0x55;
        assert_eq!(read(&damaged), (vec![offsets[0], offsets[2]], true), "byte {at}");
    }
}

#[test]
fn a_foreign_or_newer_file_is_refused_with_its_reason() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut newer = header();
    newer[8] = 2;
    file.write_all(&newer).unwrap();
    let log = Arc::new(LogFile::open(file.path().to_owned()).unwrap());
    let error = LogReader::new(&log).unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("reads version 1"), "{error}");
}

#[test]
fn costs_come_back_to_the_last_bit_and_not_a_number_harms_no_group() {
    for cost in [0.1 + 0.2, 1.0e-7, 123456.789012345, f64::MIN_POSITIVE, f64::NAN, f64::INFINITY] {
        let record = Record::Attempt(crate::ledger::AttemptRecord {
            call_id: CallId::from_bytes([1; 32]),
            model: "m".into(),
            time_ms: 0,
            latency_ms: 0,
            status: None,
            error_kind: None,
            error: None,
            billed: true,
            cost_usd: cost,
        });
        let mut encoder = FrameEncoder::storing();
        let frame = encoder.encode([&Lines::of(vec![record]).unwrap()]).unwrap();
        let Record::Attempt(back) = &FrameDecoder::default().decode(&frame[8..]).unwrap()[0] else {
            panic!("not an attempt")
        };
        assert!(back.cost_usd.to_bits() == cost.to_bits() || (back.cost_usd.is_nan() && cost.is_nan()));
    }
}

/// A reader of zstd that knows nothing of this log reads what it stores; blocks are no longer than they may be.
#[test]
fn what_is_stored_and_what_is_compressed_is_zstd() {
    let records = |n: usize| vec![use_of(n as u64); n];
    // One after the other, as they come out of a log: a longer one leaves nothing behind in a shorter one.
    let mut decoder = FrameDecoder::default();
    for sizes in [vec![1], vec![2, 1, 3], vec![4_000, 1], vec![1]] {
        let lines: Vec<Lines> = sizes.into_iter().map(|n| Lines::of(records(n)).unwrap()).collect();
        let whole = lines.iter().flat_map(|lines| lines.bytes.clone()).collect::<Vec<u8>>();
        for mut encoder in [FrameEncoder::storing(), FrameEncoder::compressing(3).unwrap()] {
            let frame = encoder.encode(&lines).unwrap();
            assert_eq!(zstd::stream::decode_all(&frame[8..]).unwrap(), whole);
            assert_eq!(decoder.decode(&frame[8..]).unwrap(), Lines::read(&whole).unwrap());
        }
    }
}
