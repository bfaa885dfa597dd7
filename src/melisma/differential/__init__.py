"""Which marks follow an exposure: sites and regions, with statistics that hold."""

from melisma.differential.sites import SiteTests, site_tests

__all__ = ["SiteTests", "site_tests"]
