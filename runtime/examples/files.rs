//! Files: whole ones, pieces at a place, a cursor, and the list of a directory. Python has none of it in asyncio; aiofiles
//! does it on threads.

use std::io::{self, SeekFrom};

use annulet::fs::{self, File};

#[annulet::main]
async fn main() -> io::Result<()> {
    let folder = std::env::temp_dir().join(format!("annulet-files-{}", std::process::id()));
    fs::create_dir_all(folder.join("notes")).await?;

    // 1. Whole files at once.
    let path = folder.join("notes/today");
    fs::write(&path, "bread, milk, apples\n").await?;
    print!("written and read: {}", fs::read_to_string(&path).await?);
    println!("copied: {} bytes", fs::copy(&path, folder.join("notes/tomorrow")).await?);

    // 2. Pieces at a place: the buffer goes to the kernel and comes back, nothing is copied, and any number of tasks may
    //    do it at once.
    let file = File::options().read(true).write(true).open(&path).await?;
    let (written, _) = file.write_all_at(b"pears ".to_vec(), 13).await;
    written?;
    let (count, buffer) = file.read_at(vec![0; 11], 7).await;
    println!("at 7: {:?}", String::from_utf8_lossy(&buffer[..count?]));
    file.sync_all().await?;

    // 3. A cursor with borrowed slices, which the traits of futures-io see too.
    let mut file = File::options().append(true).read(true).open(&path).await?;
    file.write_all(b"cheese\n").await?;
    file.seek(SeekFrom::Start(20)).await?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).await?;
    println!("appended: {:?}", String::from_utf8_lossy(&rest));

    // 4. The list of a directory.
    fs::rename(folder.join("notes/tomorrow"), folder.join("notes/later")).await?;
    let mut names = Vec::new();
    let mut entries = fs::read_dir(folder.join("notes")).await?;
    while let Some(entry) = entries.next_entry().await? {
        names.push((entry.file_name().to_owned(), entry.metadata().await?.len()));
    }
    names.sort();
    for (name, len) in names {
        println!("{}: {len} bytes", name.display());
    }
    let missing = fs::read(folder.join("nowhere")).await.unwrap_err();
    println!("an error names the path: {}", missing.to_string().contains("nowhere"));
    fs::remove_dir_all(folder).await
}
