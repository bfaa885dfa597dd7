# Seconds and loci of bsseq::read.bismark on Bismark coverage files.
suppressPackageStartupMessages(library(bsseq))
files <- commandArgs(trailingOnly = TRUE)
gc(reset = TRUE)
seconds <- system.time(
  found <- read.bismark(files, strandCollapse = FALSE, verbose = FALSE)
)[["elapsed"]]
cat(sprintf(
  '{"seconds": %.4f, "loci": %d, "reads": %.0f, "version": "%s"}\n',
  seconds, nrow(found), sum(as.matrix(getCoverage(found, type = "Cov"))),
  as.character(packageVersion("bsseq"))
))
