"""The network of each architecture: one line a paper."""

from mtl_ray.experiment import model
from mtl_ray.experiment.model import Architecture
from mtl_ray.models.adatt import AdaTTNetwork
from mtl_ray.models.aitm import AITMNetwork
from mtl_ray.models.cross_stitch import CrossStitchNetwork
from mtl_ray.models.esmm import ESMMNetwork
from mtl_ray.models.layers import Network
from mtl_ray.models.mmoe import MMoENetwork
from mtl_ray.models.pepnet import PEPNetNetwork
from mtl_ray.models.ple import PLENetwork
from mtl_ray.models.poso import POSONetwork
from mtl_ray.models.shared_bottom import SharedBottomNetwork
from mtl_ray.models.single_task import SingleTaskNetwork
from mtl_ray.models.soft_sharing import SoftSharingNetwork
from mtl_ray.models.stem import STEMNetwork

NETWORKS: dict[type, type[Network]] = {
    model.SingleTask: SingleTaskNetwork,
    model.SharedBottom: SharedBottomNetwork,
    model.SoftSharing: SoftSharingNetwork,
    model.CrossStitch: CrossStitchNetwork,
    model.MMoE: MMoENetwork,
    model.CGC: PLENetwork,
    model.PLE: PLENetwork,
    model.AdaTT: AdaTTNetwork,
    model.STEM: STEMNetwork,
    model.PEPNet: PEPNetNetwork,
    model.POSO: POSONetwork,
    model.ESMM: ESMMNetwork,
    model.AITM: AITMNetwork,
}


def network_of(settings: Architecture) -> type[Network]:
    """The class of the network that the settings describe."""
    return NETWORKS[type(settings)]
