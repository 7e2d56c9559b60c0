from pnpvideo.clips.clip import Clip as Clip
from pnpvideo.clips.clip import Sound as Sound
from pnpvideo.clips.clip import Timing as Timing
from pnpvideo.clips.read import read_clip as read_clip
from pnpvideo.clips.write import write_clip as write_clip
from pnpvideo.errors import InputError as InputError
from pnpvideo.errors import RunError as RunError
from pnpvideo.inside.record import Recorded as Recorded
from pnpvideo.inside.record import record_features as record_features
from pnpvideo.options.method import PnPOptions as PnPOptions
from pnpvideo.options.model import ModelSettings as ModelSettings
from pnpvideo.options.settings import Settings as Settings
from pnpvideo.options.settings_file import read_settings as read_settings
from pnpvideo.pipelines.call import PnPVideoPipelineOutput as PnPVideoPipelineOutput
from pnpvideo.pipelines.flow import PnPFlowPipeline as PnPFlowPipeline
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline as PnPVideoPipeline
from pnpvideo.run.opening import load_pipeline as load_pipeline
from pnpvideo.run.run import Inversion as Inversion
from pnpvideo.run.run import Translation as Translation
from pnpvideo.run.run import translate as translate
from pnpvideo.storage.allocate import Storage as Storage
from pnpvideo.storage.job_folder import JobFolder as JobFolder
from pnpvideo.storage.trajectory import Trajectory as Trajectory

__version__: str
