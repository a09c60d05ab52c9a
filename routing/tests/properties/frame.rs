//! Frames on the wire.

use std::sync::Arc;

use portcullis_routing::{
    diff,
    frame::{Frame, FrameError, FrameReader},
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use crate::arbitrary::table;

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        table().prop_map(|table| Frame::Snapshot(Arc::new(table))),
        (table(), table()).prop_map(|(old, new)| Frame::Delta(Arc::new(diff(&old, &new)))),
        Just(Frame::HEARTBEAT),
    ]
}

proptest! {
    #[test]
    fn the_length_of_a_frame_is_known_when_its_table_is_sealed(mut table in table()) {
        let told = table.seal();
        let frame = Frame::Snapshot(Arc::new(table)).line_length().unwrap();
        prop_assert!((frame..frame + 2048).contains(&told), "{} B, not {}", told, frame);
    }

    #[test]
    fn frames_survive_the_wire_however_it_is_cut(frames in vec(frame(), 0..4), cut in 1_usize..2000) {
        let mut wire = Vec::new();
        for frame in &frames {
            wire.extend(frame.to_line().unwrap());
        }
        let mut reader = FrameReader::default();
        let mut read = Vec::new();
        for chunk in wire.chunks(cut) {
            reader.push(chunk);
            while let Some(frame) = reader.next_frame() {
                read.push(frame.unwrap());
            }
        }
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn a_field_of_a_later_release_is_skipped(frame in frame(), name in "x_[a-z]{1,8}") {
        let mut later: Value = serde_json::from_slice(&frame.to_line().unwrap()).unwrap();
        later[&name] = json!({"kind": "other", "list": [1, null]});
        prop_assert_eq!(Frame::parse(later.to_string().as_bytes()).unwrap(), frame);
    }

    #[test]
    fn a_kind_of_a_later_release_is_named(frame in frame(), name in "x_[a-z]{1,8}") {
        let mut later: Value = serde_json::from_slice(&frame.to_line().unwrap()).unwrap();
        later["kind"] = json!(name);
        let error = Frame::parse(later.to_string().as_bytes()).unwrap_err();
        prop_assert!(matches!(&error, FrameError::Kind { found } if *found == name), "{}", error);
    }

    #[test]
    fn noise_is_an_error_and_no_panic(noise in vec(any::<u8>(), 0..200)) {
        let mut reader = FrameReader::with_limit(100);
        reader.push(&noise);
        while let Some(Ok(_)) = reader.next_frame() {}
        prop_assert!(Frame::parse(&noise).is_err());
    }
}
