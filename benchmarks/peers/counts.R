# Counts that melisma's benchmark wrote to a folder, and what a peer found in them.
# counts.bin: sites, samples, positions, methylated and coverage (site by site within a sample),
# 32-bit integers; sheet.tsv: the sample sheet.
read_counts <- function(folder) {
  file <- file(file.path(folder, "counts.bin"), "rb")
  on.exit(close(file))
  size <- readBin(file, "integer", 2)
  position <- readBin(file, "integer", size[1])
  matrices <- lapply(1:2, function(k) {
    matrix(readBin(file, "integer", size[1] * size[2]), size[1], size[2])
  })
  sheet <- read.delim(file.path(folder, "sheet.tsv"), stringsAsFactors = TRUE)
  list(position = position, methylated = matrices[[1]], coverage = matrices[[2]], sheet = sheet)
}

as_bsseq <- function(counts) {
  bsseq::BSseq(
    chr = rep("chr22", length(counts$position)), pos = counts$position,
    M = counts$methylated, Cov = counts$coverage, sampleNames = as.character(counts$sheet$sample)
  )
}

# One p-value a site of the input, NA where a peer gives none.
write_p <- function(folder, name, p) {
  writeBin(as.double(p), file.path(folder, paste0(name, ".p.bin")))
}

write_regions <- function(folder, name, start, end, size) {
  found <- data.frame(start = start, end = end, size = size)
  write.table(found, file.path(folder, paste0(name, ".regions.tsv")),
    sep = "\t", quote = FALSE, row.names = FALSE
  )
}

seconds_of <- function(work) system.time(work)[["elapsed"]]

tell <- function(package, seconds) {
  cat(sprintf('\n{"seconds": %.3f, "version": "%s"}\n', seconds, packageVersion(package)))
}
