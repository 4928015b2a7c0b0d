"""From a neuron's settings to what it does about pictures."""

from __future__ import annotations

import ipaddress

from helexa.neuron.serving.pictures.fetching import Fetcher, FetchRules
from helexa.neuron.serving.pictures.judging import PictureRules, Pictures
from helexa.neuron.settings import NeuronSettings


def pictures_of(settings: NeuronSettings) -> Pictures:
    fetcher = None
    if settings.image_urls:
        fetcher = Fetcher(
            FetchRules(
                hosts=settings.image_url_hosts,
                ports=settings.image_url_ports,
                networks=tuple(map(ipaddress.ip_network, settings.image_url_networks)),
                bytes_max=settings.image_bytes_max,
                timeout_s=settings.image_url_timeout_s,
            )
        )
    rules = PictureRules(
        number_max=settings.images_max,
        bytes_max=settings.image_bytes_max,
        pixels_max=settings.image_pixels_max,
        pixels_sum_max=settings.images_pixels_max,
        body_bytes_max=settings.body_bytes_max,
    )
    return Pictures(rules, fetcher)
