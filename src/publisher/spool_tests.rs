use super::*;

fn event(id: usize) -> EncodedEvent {
    EncodedEvent {
        body: vec![b'x'; 1000],
        routing_key: Cow::Borrowed("cns.test"),
        event_id: id.to_string(),
        event_type: Cow::Borrowed("test"),
        priority: 5,
        timestamp: -1,
        traceparent: id.is_multiple_of(2).then(|| "00-1-2-01".to_owned()),
    }
}

fn ids(kept: &[Kept]) -> Vec<&str> {
    kept.iter().map(|kept| kept.message.event_id.as_str()).collect()
}

#[test]
fn what_is_written_is_read_in_order_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("made/here");
    let events: Vec<_> = (0..5).map(event).collect();
    let mut spool = Spool::open(&folder, u64::MAX).unwrap();
    spool.append(&events).unwrap();
    let first = spool.read(2, usize::MAX).unwrap();
    assert_eq!((ids(&first), &first[0].message), (vec!["0", "1"], &events[0]));
    spool.remove(&[first[0].key]).unwrap();
    drop(spool);

    let mut spool = Spool::open(&folder, u64::MAX).unwrap();
    assert_eq!(spool.len(), 4);
    assert_eq!(ids(&spool.read(100, 1).unwrap()), ["1"], "one at least, whatever its size");
    assert_eq!(ids(&spool.read(100, usize::MAX).unwrap()), ["2", "3", "4"]);
    assert!(!spool.has_unread());
    spool.append([&event(9)]).unwrap();
    assert_eq!(ids(&spool.read(100, usize::MAX).unwrap()), ["9"]);
}

#[test]
fn what_goes_first_is_before_all_others_and_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), u64::MAX).unwrap();
    spool.append([&event(3)]).unwrap();
    let place = spool.prepend([&event(1), &event(2)].into_iter()).unwrap();
    spool.prepend([&event(0)].into_iter()).unwrap();
    assert_eq!(ids(&spool.read(10, usize::MAX).unwrap()), ["3"]);
    spool.remove(&[place]).unwrap();
    drop(spool);
    let mut spool = Spool::open(folder.path(), u64::MAX).unwrap();
    assert_eq!(ids(&spool.read(10, usize::MAX).unwrap()), ["0", "2", "3"]);
}

#[test]
fn its_size_is_bounded_and_room_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), 2500).unwrap();
    spool.append([&event(1), &event(2)]).unwrap();
    assert!(matches!(spool.append([&event(3)]), Err(SpoolError::Full(2500))));
    assert_eq!(spool.len(), 2);
    let kept = spool.read(1, usize::MAX).unwrap();
    spool.remove(&[kept[0].key]).unwrap();
    spool.append([&event(3)]).unwrap();
    assert_eq!(ids(&spool.read(10, usize::MAX).unwrap()), ["2", "3"]);
}

#[test]
fn processes_share_a_folder_and_adopt_what_others_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Spool::open(folder.path(), u64::MAX).unwrap();
    let mut second = Spool::open(folder.path(), u64::MAX).unwrap();
    first.append([&event(1)]).unwrap();
    second.append([&event(2), &event(3)]).unwrap();
    let third = Spool::open(folder.path(), u64::MAX).unwrap();
    assert_eq!(third.len(), 0, "a living process keeps its own");
    drop((first, second, third));
    let mut one = Spool::open(folder.path(), u64::MAX).unwrap();
    assert_eq!(ids(&one.read(10, usize::MAX).unwrap()), ["1", "2", "3"]);
    assert_eq!(Spool::open(folder.path(), u64::MAX).unwrap().len(), 0);
}

#[test]
fn a_damaged_file_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events-0.redb"), vec![7_u8; 100_000]).unwrap();
    let mut spool = Spool::open(folder.path(), u64::MAX).unwrap();
    assert_eq!(spool.len(), 0);
    spool.append([&event(1)]).unwrap();
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|of| of.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name.to_string_lossy().contains("broken")), "{names:?}");
    assert!(Spool::open(Path::new("/proc/nowhere"), 1).is_err());
}
