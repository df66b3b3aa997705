//! The guide for those who know asyncio: every row is there, and what it points to as well.

use std::path::Path;

/// Ideas that the guide has, numbered from 1.
const ROWS: usize = 33;

#[test]
fn the_guide_has_every_row_and_its_links_lead_somewhere() {
    let docs = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"));
    for page in ["asyncio.md", "README.md"] {
        let text = std::fs::read_to_string(docs.join(page)).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let file = link.split('#').next().unwrap();
            assert!(docs.join(file).exists(), "{page} points to {file}, which is not there");
        }
    }
    let guide = std::fs::read_to_string(docs.join("asyncio.md")).unwrap();
    let rows: Vec<usize> =
        guide.lines().filter_map(|line| line.strip_prefix("### ")?.split('.').next()?.parse().ok()).collect();
    assert_eq!(rows, Vec::from_iter(1..=ROWS));
}
