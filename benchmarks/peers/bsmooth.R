# BSmooth: bsmooth.R FOLDER CORES, with the settings of its manual (ns 70, h 1000; sites that two
# samples of each group cover twice; abs(t) > 4.6, three sites, mean difference .1).
suppressPackageStartupMessages(library(bsseq))
arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[1]
source(file.path(dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE))), "counts.R"))
counts <- read_counts(folder)
cores <- as.integer(arguments[2])
one <- which(counts$sheet$g == "a")
two <- which(counts$sheet$g == "b")
seconds <- seconds_of({
  parallel <- if (cores > 1) BiocParallel::MulticoreParam(cores) else BiocParallel::SerialParam()
  data <- BSmooth(as_bsseq(counts), ns = 70, h = 1000, BPPARAM = parallel)
  covered <- counts$coverage >= 2
  data <- data[rowSums(covered[, one]) >= 2 & rowSums(covered[, two]) >= 2, ]
  found <- BSmooth.tstat(data,
    group1 = one, group2 = two, estimate.var = "same", local.correct = TRUE, verbose = FALSE
  )
  # dmrFinder fails where a single site is beyond the cut; three are asked for anyway.
  beyond <- sum(abs(getStats(found)[, "tstat.corrected"]) > 4.6, na.rm = TRUE)
  regions <- NULL
  if (beyond >= 3) regions <- dmrFinder(found, cutoff = c(-4.6, 4.6), verbose = FALSE)
  if (!is.null(regions)) regions <- subset(regions, n >= 3 & abs(meanDiff) >= 0.1)
})
if (is.null(regions)) regions <- data.frame(start = integer(), end = integer(), areaStat = numeric())
write_regions(folder, "bsmooth", regions$start, regions$end + 1, abs(regions$areaStat))
tell("bsseq", seconds)
