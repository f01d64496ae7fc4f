use super::*;

fn headers(list: &[(&str, &str)]) -> Headers {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn blocks_are_read_one_after_the_other() {
    let (mut deflater, mut inflater) = (Deflater::new().unwrap(), Inflater::new());
    let all = [
        headers(&[("streamtype", "stdin")]),
        headers(&[]),
        headers(&[("streamtype", "stdout"), ("port", "80"), ("x", &"y".repeat(60_000))]),
        headers(&[("streamtype", "stdin")]),
    ];
    for one in all {
        let block = deflater.write(&one).unwrap();
        assert_eq!(inflater.read(&block), Ok(one));
    }
}

#[test]
fn values_are_found_by_name() {
    let headers = headers(&[("streamtype", "a\0b"), ("streamtype", "c"), ("port", "")]);
    assert_eq!(headers.get("streamType"), Some("a"));
    assert_eq!(headers.get("port"), Some(""));
    assert_eq!(headers.get("requestid"), None);
}

/// Compresses `block` as a client would.
fn compressed(block: &[u8]) -> Vec<u8> {
    let mut state = Compress::new(Compression::best(), true);
    state.set_dictionary(DICTIONARY).unwrap();
    let mut compressed = Vec::with_capacity(block.len() + 1024);
    state.compress_vec(block, &mut compressed, FlushCompress::Sync).unwrap();
    compressed
}

#[test]
fn what_is_no_block_is_refused() {
    let read = |block: &[u8]| Inflater::new().read(&compressed(block)).unwrap_err();
    assert_eq!(read(&[]), BadHeaders::Content);
    assert_eq!(read(&[0, 0, 0]), BadHeaders::Content);
    assert_eq!(read(&[0, 0, 0, 1]), BadHeaders::Content);
    assert_eq!(read(&[0xff; 4]), BadHeaders::Content);
    assert_eq!(read(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]), BadHeaders::Content);
    assert_eq!(read(&[0, 0, 0, 0, 7]), BadHeaders::Content);
    assert_eq!(read(&vec![0; MOST + 1]), BadHeaders::Length);
    assert_eq!(read(&vec![0; 64 << 20]), BadHeaders::Length);
    assert_eq!(Inflater::new().read(b"not compressed"), Err(BadHeaders::Compression));
    assert_eq!(Inflater::new().read(&[]), Err(BadHeaders::Content));
}

#[test]
fn stream_that_ends_is_refused() {
    let mut state = Compress::new(Compression::best(), true);
    state.set_dictionary(DICTIONARY).unwrap();
    let mut compressed = Vec::with_capacity(1024);
    state.compress_vec(&[0; 4], &mut compressed, FlushCompress::Finish).unwrap();
    assert_eq!(Inflater::new().read(&compressed), Err(BadHeaders::Compression));
}

#[test]
fn another_dictionary_is_refused() {
    let mut state = Compress::new(Compression::best(), true);
    state.set_dictionary(b"another").unwrap();
    let mut compressed = Vec::with_capacity(1024);
    state.compress_vec(&[0; 4], &mut compressed, FlushCompress::Sync).unwrap();
    assert_eq!(Inflater::new().read(&compressed), Err(BadHeaders::Compression));
}
