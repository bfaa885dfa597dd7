"""Which marks follow an exposure: sites and regions, with statistics that hold."""

from melisma.differential._array_engine import ArrayEngine
from melisma.differential._search import Search
from melisma.differential.bootstrap import BootstrapTests, bootstrap_tests
from melisma.differential.calibration import Calibration, calibrate
from melisma.differential.given import GivenRegionTests, region_tests, tiles
from melisma.differential.regions import RegionTests, find_regions
from melisma.differential.simulate import Noise, Simulation, simulate
from melisma.differential.sites import SiteTests, site_tests

__all__ = [
    "ArrayEngine",
    "BootstrapTests",
    "Calibration",
    "GivenRegionTests",
    "Noise",
    "RegionTests",
    "Search",
    "Simulation",
    "SiteTests",
    "bootstrap_tests",
    "calibrate",
    "find_regions",
    "region_tests",
    "simulate",
    "site_tests",
    "tiles",
]
